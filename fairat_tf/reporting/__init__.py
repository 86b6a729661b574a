"""The evaluation result as text, files and a page.

from fairat_tf.reporting import console, files
print(console.classwise_table(result))
files.write(result, "runs/a")
"""
