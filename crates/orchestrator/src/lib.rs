//! Every call to a model.
