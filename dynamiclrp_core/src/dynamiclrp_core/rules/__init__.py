"""How relevance passes: the default rule of each family, the field's rules of layers, scopes."""
