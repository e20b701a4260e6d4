"""What goes over the wire: the bodies of the prompt-run API, one module for each kind of resource.

Answers carry every field, so that clients of several versions read them; requests take what any of these clients sends.
"""
