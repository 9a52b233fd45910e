-- MLflow keeps its own history of migrations, so it gets a database of its own.
CREATE DATABASE mlflow;
