"""The picture of a plan.

- plan_picture: the whole picture
- layout: where its parts lie; plan_canvas: a canvas that knows it
- waves, prompts: the speech and the prompts in it
"""
