"""What the certificate knows of operators, line by line, written from their definitions."""
