"""What every verb can be told: a class of options each, known without importing what carries it out."""
