//! From a TOML file to the gate. The cold path: everything is checked here so that nothing has to be checked later.
