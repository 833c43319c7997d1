"""The types of our wires."""

from .host.comfy import io

Bundle = io.Custom("TESSERA_BUNDLE")  # models.BundleHandle
VQGAN = io.Custom("TESSERA_VQGAN")  # models.VQGANHandle
Condition = io.Custom("TESSERA_CONDITION")  # core.prepared.PreparedCondition
Emphasis = io.Custom("TESSERA_EMPHASIS")  # core.conditions.sketch.Emphasis
Text = io.Custom("TESSERA_TEXT")  # core.conditions.text.TextFeatures
Canvas = io.Custom("TESSERA_CANVAS")  # core.canvas.Canvas
Sampling = io.Custom("TESSERA_SAMPLING")  # core.warp.SamplingSettings
Sliding = io.Custom("TESSERA_SLIDING")  # host.sampling.WindowChoice
Region = io.Custom("TESSERA_REGION")  # core.images.put_back.Region
CLIP = io.Custom("TESSERA_CLIP")  # host.painting.ClipHandle
Discriminator = io.Custom("TESSERA_DISCRIMINATOR")  # host.gate.DiscriminatorHandle
Prompts = io.Custom("TESSERA_PROMPTS")  # list of core.clip.prompts.Prompt
Painting = io.Custom("TESSERA_PAINTING")  # core.clip.guidance.GuidanceSettings
