from test_cuts_and_crashes import *
@given(entries=histories(), sizes=st.lists(st.integers(1, 6), min_size=1), data=st.data())
def test_zz(entries, sizes, data):
    with written(entries, sizes) as log:
        if len(log.ends) == 1:
            return
        size = data.draw(st.integers(log.ends[0][0], log.ends[-2][0]), "first lost byte")
        stop = data.draw(st.integers(log.ends[-2][0] + 1, len(log.data)), "first byte that is there again")
        log.put(log.data[:size] + b"\0" * (stop - size) + log.data[stop:])
        end, lines = log.committed(size)
        try:
            n = log.restore().entries_count
        except sl.CorruptSegment: return
        if n != lines: print("DBG", n, lines, size, stop, log.ends, sizes, [marks for marks in log.path.read_bytes().split(b"\n")])
        assert n == lines
