"""`python -m meta1g.smar`: the daemon without an installed script."""
import sys

from meta1g.smar.main import main

sys.exit(main(sys.argv[1:]))
