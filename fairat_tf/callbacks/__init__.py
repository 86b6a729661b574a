"""Keras callbacks of a run, one each file. They work in the package's own loop and in `model.fit`.

history = ClasswiseHistory(class_names)            # first: the others read its record
model.fit(batches, callbacks=[history, RunLog(run, history)])
"""
