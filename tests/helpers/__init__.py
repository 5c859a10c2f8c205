"""What tests share: both client variants, recorded streams, small models, a scripted engine, an option about skips."""
