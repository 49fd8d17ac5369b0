"""The worker processes: Celery on the use cases of `datagen.service` and `datagen.work`."""
