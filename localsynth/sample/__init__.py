"""Drawing synthetic rows from the merged model with llama.cpp."""
