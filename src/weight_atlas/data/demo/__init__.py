"""The bundled model: how it was made, what its card says, and the tasks that go with it."""
