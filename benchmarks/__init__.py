"""Speed of `fairat_tf`: against a PyTorch peer and other libraries, of its methods, of its start.

    ./tools/benchmark methods pgd_at fairat fairat+hard_score=start --network=preact_resnet18 --width=16

Nothing here is part of the package. Every side runs in a process of its own (`benchmarks.worker`), one at a
time, and the cases take turns, so that what else the machine does falls on all alike.
"""
