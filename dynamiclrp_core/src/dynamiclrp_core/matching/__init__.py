"""Which operation is this, really? Matchers and the walks they rest on."""
