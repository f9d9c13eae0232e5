// Ranks in a whole corpus: how many candidates come before each query's positive. No score leaves its register.
#include <cfloat>
#include <cmath>
#include <numeric>

#include "tiles.h"

namespace {
// A block of queries on its way through the panels.
struct Counts {
    std::vector<float> positive;  // the score of each query's positive
    std::vector<float> bound;     // what a score must exceed to count
    std::vector<int64_t> turn;    // the panel of the positive, behind which ties do not count
    std::vector<int32_t> lanes;   // (queries, LANES) counts

    explicit Counts(int64_t size)
        : positive(size), bound(size, INFINITY), turn(size, -1), lanes(size * LANES) {}
};

template <int COUNT>
inline void count_tile(const Tile &tile, const float *panel, int64_t dim, int open, Counts &counts) {
    Vec scores[COUNT][2];
    score_tile<COUNT>(tile.packed, panel, dim, scores);
    const float *bounds = counts.bound.data() + tile.first;
    IntVec *into = reinterpret_cast<IntVec *>(counts.lanes.data()) + tile.first;
    if (open == WIDTH)
#pragma GCC unroll 16
        for (int row = 0; row < COUNT; row++)
            into[row] -= (scores[row][0] > bounds[row]) + (scores[row][1] > bounds[row]);
    else
        for (int row = 0; row < COUNT; row++)
            for (int lane = 0; lane < open; lane++)
                into[row][0] += scores[row][lane / LANES][lane % LANES] > bounds[row];
}

// In the panel of the positive ties count up to its own lane, behind that panel they do not.
template <int COUNT>
inline void turn_tile(const Tile &tile, const float *panel, int64_t dim, int64_t number, int open, const int64_t *places,
                      Counts &counts) {
    Vec scores[COUNT][2];
    score_tile<COUNT>(tile.packed, panel, dim, scores);
    for (int row = 0; row < COUNT; row++) {
        const int64_t query = tile.first + row;
        if (counts.turn[query] != number) continue;
        for (int lane = int(places[query] % WIDTH); lane < open; lane++)
            counts.lanes[query * LANES] -= scores[row][lane / LANES][lane % LANES] == counts.positive[query];
        counts.bound[query] = counts.positive[query];
    }
}
}  // namespace

extern "C" {

// Count the candidates that come before each query's positive: those with a higher score, and those with an equal one
// at an earlier place. Excluded candidates do not count; theirs and the positives' numbers are rows of `candidates`.
void count_better(int64_t threads, const float *queries, int64_t num_queries, int64_t dim, const float *candidates,
                  int64_t num_candidates, const float *panels, const int64_t *place_of, const int64_t *positives,
                  const int64_t *excluded, const int64_t *offsets, int64_t *better) {
    const int64_t share = (num_queries + threads - 1) / threads;
    const int64_t size = std::max<int64_t>(1, std::min(BLOCK, (share + ROWS - 1) / ROWS * ROWS));
    const int64_t num_panels = (num_candidates + WIDTH - 1) / WIDTH;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t first = 0; first < num_queries; first += size) {
        const int64_t count = std::min(size, num_queries - first);
        const float *mine = queries + first * dim;
        const Tiles tiles(mine, count, dim);
        Counts counts(count + ROWS);
        std::vector<int64_t> places(count + ROWS);
        for (int64_t row = 0; row < count; row++) {
            const float *own = candidates + positives[first + row] * dim;
            dots(mine + row * dim, [&](int64_t) { return own; }, 1, 1, dim, &counts.positive[row]);
            const float positive = counts.positive[row];
            counts.bound[row] = nextafterf(positive, -INFINITY);
            if (!(positive > counts.bound[row])) counts.bound[row] = -FLT_MIN;  // where tiny numbers are taken for 0
            places[row] = place_of[positives[first + row]];
            counts.turn[row] = places[row] / WIDTH;
        }
        for (int64_t panel = 0; panel < num_panels; panel++) {
            const int open = int(std::min<int64_t>(WIDTH, num_candidates - panel * WIDTH));
            const float *at = panels + panel * dim * WIDTH;
            for (const Tile &tile : tiles)
                with_rows(tile.rows, [&](auto rows) {
                    count_tile<rows>(tile, at, dim, open, counts);
                    const int64_t *turn = counts.turn.data() + tile.first;
                    if (__builtin_expect(std::find(turn, turn + rows, panel) != turn + rows, 0))
                        turn_tile<rows>(tile, at, dim, panel, open, places.data(), counts);
                });
        }
        std::vector<int64_t> rows;
        std::vector<float> scores;
        for (int64_t row = 0; row < count; row++) {
            int64_t total = std::accumulate(&counts.lanes[row * LANES], &counts.lanes[row * LANES] + LANES, int64_t(0));
            if (offsets) {
                distinct(excluded + offsets[first + row], excluded + offsets[first + row + 1], rows);
                scores.resize(rows.size());
                dots(mine + row * dim, [&](int64_t i) { return candidates + rows[i] * dim; }, 1, rows.size(), dim,
                     scores.data());
                for (size_t i = 0; i < rows.size(); i++)
                    total -= scores[i] > counts.positive[row] ||
                             (scores[i] == counts.positive[row] && place_of[rows[i]] < places[row]);
            }
            better[first + row] = total;
        }
    }
}
}
