"""Makes a data set's folder of the archives that the user has downloaded."""
