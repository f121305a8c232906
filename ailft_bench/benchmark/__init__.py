"""The benchmark of the program itself: what a frame, an action, a batch and an update cost on this machine.

Every subject is measured in a process of its own (``probe``), set up as a worker is; those that are compared take
turns (``sampling``), so that whatever else the machine does falls on all of them alike. ``subjects`` says what is
done in one turn, ``updates`` what an update is made of, ``plain`` what it would cost without the fast paths.
"""
