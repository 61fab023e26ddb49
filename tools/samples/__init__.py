"""Make the sample models of models/, each holding one quirk of exporters; see `graph_builder`."""
