"""The options of every verb: a class each, which is imported without what carries the verb out."""
