"""The built-in corpora, made on this machine from its own interpreter and from written rules."""
