"""The database's schema, step by step; `datagen.db.migrate` applies them."""
