"""Tables, figures and pages, made of records."""
