// Lists of rows, one list a query, before a kernel follows their offsets.
#include <cstdint>

extern "C" {

// Find the first mistake in lists of rows: the number of a list whose offsets are wrong, or behind `num_lists` the place
// of a value that is no row; -1 where there is none. Nothing is read beyond what was given.
void check_lists(int64_t threads, const int64_t *offsets, int64_t num_lists, const int64_t *values, int64_t num_values,
                 int64_t num_rows, int64_t *mistake) {
    mistake[0] = -1;
    if (offsets[0] != 0 || offsets[num_lists] != num_values) mistake[0] = offsets[0] != 0 ? 0 : num_lists;
    for (int64_t list = 0; list < num_lists && mistake[0] < 0; list++)
        if (offsets[list + 1] < offsets[list]) mistake[0] = list;
    int64_t outside = 0;
#pragma omp parallel for num_threads(threads) reduction(+ : outside) if (num_values > 1 << 18)
    for (int64_t i = 0; i < num_values; i++) outside += uint64_t(values[i]) >= uint64_t(num_rows);
    for (int64_t i = 0; outside && mistake[0] < 0; i++)
        if (uint64_t(values[i]) >= uint64_t(num_rows)) mistake[0] = num_lists + 1 + i, outside = 0;
}
}
