"""How any page is made and its forms are read: templates, files that go with them, strangers' words made safe."""
