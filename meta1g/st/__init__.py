"""Floor 2: statethreads over gevent; the only package that imports gevent."""
