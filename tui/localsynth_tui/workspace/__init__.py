"""The files of a workspace as the screens read and edit them."""
