"""Small studies, made without Ray or made up altogether, and what looks at them."""
