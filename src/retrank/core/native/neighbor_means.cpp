// How alike a candidate is to what a query had last: means over similarities that are kept for few pairs.
#include <algorithm>
#include <cstdint>

namespace {

// Where the similarity of two ids is, or -1.
struct Similarities {
    const int64_t *starts;
    const int32_t *neighbors;
    const int64_t num_ids, words;
    const int64_t *bits;   // of each id, which others are its neighbors, or null;
    const int32_t *ranks;  // and how many neighbors come before each word of that

    int64_t operator()(int64_t id, int64_t other) const {
        if (!bits) {
            const int32_t *begin = neighbors + starts[id], *end = neighbors + starts[id + 1];
            const int32_t *found = std::lower_bound(begin, end, other);
            return found == end || *found != other ? -1 : found - neighbors;
        }
        if (uint64_t(other) >= uint64_t(num_ids)) return -1;
        const int64_t at = id * words + other / 64;
        const uint64_t word = bits[at], bit = uint64_t(1) << other % 64;
        return word & bit ? starts[id] + ranks[at] + __builtin_popcountll(word & (bit - 1)) : -1;
    }
};

}  // namespace

extern "C" {

// For each pair of a list and an id, and each window, the mean similarity of the id to the last so many of the list.
// Pairs may share lists, so that what a query had last need not be repeated for each of its candidates.
// The neighbors of an id lie between two `starts`, in ascending order; who is no neighbor has similarity 0. An id
// that has no row, since it is new, has no neighbors. Sums go from the oldest to the latest, as in the plain version.
// With `bits` a neighbor is found in a few cycles; to search for it takes dozens, which no processor foresees.
// Places are not trusted: `misled` says whether one leads out of what was given, and then the means are not to be used.
void neighbor_means(int64_t threads, int64_t num_ids, const int64_t *starts /* (num_ids + 1) */, int64_t num_neighbors,
                    const int32_t *neighbors /* (num_neighbors) */, const float *similarities /* (num_neighbors) */,
                    int64_t words, const int64_t *bits /* (num_ids, words) or null */,
                    const int32_t *ranks /* (num_ids, words) or null */,
                    int64_t num_lists, int64_t num_values, const int64_t *values /* (num_values) */,
                    const int64_t *offsets /* (num_lists + 1) */, int64_t num_pairs,
                    const int64_t *lists /* (num_pairs) */, const int64_t *ids /* (num_pairs) */,
                    int64_t num_windows, const int64_t *windows /* (num_windows) */, int64_t *misled /* (1) */,
                    float *means /* (num_pairs, num_windows) */) {
    int64_t outside = starts[0] != 0 || starts[num_ids] != num_neighbors || offsets[0] != 0 ||
                      offsets[num_lists] != num_values || !bits != !ranks || (bits && words * 64 < num_ids);
    misled[0] = outside;
    if (outside) return;
    const Similarities place{starts, neighbors, num_ids, words, bits, ranks};
#pragma omp parallel for num_threads(threads) reduction(| : outside) if (num_pairs > 1 << 10)
    for (int64_t pair = 0; pair < num_pairs; pair++) {
        float *to = means + pair * num_windows;
        std::fill(to, to + num_windows, 0.f);
        const int64_t list = lists[pair], id = ids[pair];
        if (uint64_t(list) >= uint64_t(num_lists)) {
            outside = 1;
            continue;
        }
        const int64_t first = offsets[list], last = offsets[list + 1];
        outside |= first < 0 || last < first || last > num_values;
        if (outside || uint64_t(id) >= uint64_t(num_ids)) continue;
        outside |= starts[id] < 0 || starts[id + 1] < starts[id] || starts[id + 1] > num_neighbors;
        if (outside) continue;
        // The row of the id, not those of the list: it stays in the cache for the whole list.
        for (int64_t at = first; at < last; at++) {
            const int64_t found = place(id, values[at]);
            if (found < 0) continue;
            if (found >= num_neighbors) {
                outside = 1;
                break;
            }
            for (int64_t k = 0; k < num_windows; k++)
                if (last - at <= windows[k]) to[k] += similarities[found];
        }
        for (int64_t k = 0; k < num_windows; k++)
            to[k] /= float(std::max<int64_t>(1, std::min(last - first, windows[k])));
    }
    misled[0] = outside;
}
}
