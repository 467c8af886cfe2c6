"""The paper's section 3: the mesh of processes, the operators f and g, and the layers built on them."""
