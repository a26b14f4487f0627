"""The protocol between SMTPS and a policy milter's library (docs/pmilter-protocol.md, M1 15.1)."""
