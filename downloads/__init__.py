"""Published models: a catalogue, and fetching from it."""
