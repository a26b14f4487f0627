"""Floor 4: the SMTP client: delivers by ESMTP and LMTP (M1 3.11)."""
