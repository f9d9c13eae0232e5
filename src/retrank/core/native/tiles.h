// Queries cut into tiles for `score_tile`: as many full ones as there are, and a narrow one for those that are left, so
// that a single query costs no more than reading the candidates.
#pragma once
#include <algorithm>
#include <type_traits>
#include <vector>

#include "scores.h"

constexpr int64_t BLOCK = ROWS * 12;  // queries that share a pass over the panels: they stay in the cache

struct Tile {
    int64_t first;       // query
    int rows;            // 1, 2, 4, 8 or ROWS; those behind the last query are zeros
    const float *packed;  // (dim, rows)
};

class Tiles {
    std::vector<float> packed;
    std::vector<Tile> tiles;

    static int rows_for(int64_t count) {
        for (const int rows : {1, 2, 4, 8})
            if (rows < ROWS && count <= rows) return rows;
        return ROWS;
    }

public:
    Tiles(const float *queries, int64_t count, int64_t dim) : packed((count + ROWS) * dim) {
        float *to = packed.data();
        for (int64_t first = 0; first < count; first += ROWS) {
            const int rows = rows_for(count - first);
            for (int row = 0; row < std::min<int64_t>(rows, count - first); row++)
                for (int64_t k = 0; k < dim; k++) to[k * rows + row] = queries[(first + row) * dim + k];
            tiles.push_back({first, rows, to});
            to += rows * dim;
        }
    }

    const Tile *begin() const { return tiles.data(); }
    const Tile *end() const { return tiles.data() + tiles.size(); }
};

// Call `run` with a tile's number of rows as a constant.
template <typename Run>
static inline __attribute__((always_inline)) void with_rows(int rows, Run &&run) {
    switch (rows) {
        case 1: return run(std::integral_constant<int, 1>{});
        case 2: return run(std::integral_constant<int, 2>{});
        case 4: return run(std::integral_constant<int, 4>{});
        case ROWS: return run(std::integral_constant<int, ROWS>{});
#if defined(__AVX512F__)
        case 8: return run(std::integral_constant<int, 8>{});
#endif
    }
}

// The rows of one query's list, each once, in order.
static inline void distinct(const int64_t *first, const int64_t *last, std::vector<int64_t> &rows) {
    rows.assign(first, last);
    if (!std::is_sorted(rows.begin(), rows.end())) std::sort(rows.begin(), rows.end());
    rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
}
