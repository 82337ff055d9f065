"""Text and rows of tokens: what generated documents (`synthetic`) and packed long ones (`packing`) have in common."""
