"""The picture of a plan.

- plan_picture: the whole picture
- layout: where the parts of the picture lie; plan_canvas: a canvas that knows where they lie
- waves, prompts: the speech in the picture, and the prompts
"""
