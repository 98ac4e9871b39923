"""What must hold whatever the bytes: briefly by hypothesis in every run of the tests, longer by atheris."""
