//! Every environment variable that our programs read or set; documented here and nowhere else.
