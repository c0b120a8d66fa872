"""Proof that the promises hold, tried many times, on real files, with real processes. ``python tests/proof/run.py``.

``lab`` says what a proof is, ``run`` is the command. Then, by what goes wrong:

    a crash          cuts, power     scenarios and tails (what is done), play; recording and performance (system calls);
                                     disk and crashes (what may be left); history and laws (what must be), watching
                     rooms-power     rooms_scenarios, rooms_laws: the same of what stands beside the entries
    a kill           storms, soak    workers, scribe, share (who writes); ledger and filed (told against filed)
                     rooms           authors, residents (who lives there); tidings and inventory, audit, rooms_after
    a file system    shutdown, full_disk    mounts; deeds and books (told against filed)
    a system call    faults          errands, before, branching, besides, rooms_errands (what is done); crew,
                                     injected, job, strace; stage and account (what must be)
    anything else    circumstances   entrances and scene (what is done), aftermath (what must be); places, interruptions
                                     and pending, memory, clocks, lives and offspring, endings
    bad input        fuzz            fuzz_targets, fuzz_laws, fuzz_writing, fuzz_doors, fuzz_guard; mutations, hostile;
                                     atheris_fuzz
"""
