"""One function per thing a user can ask. Permission first, then one transaction; the reply is what was committed."""
