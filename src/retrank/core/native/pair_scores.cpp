// Scores of single pairs of a query and a candidate, the same to the bit as among all.
#include <cmath>
#include <vector>

#include "scores.h"

extern "C" {

// Score each query against candidates (any number, dim) of its own: rows (queries, places), of which -1 is none.
void pair_scores(int64_t threads, const float *queries, int64_t num_queries, int64_t dim, const float *candidates,
                 const int64_t *rows, int64_t places, float *scores) {
#pragma omp parallel for num_threads(threads) if (num_queries * places * dim > 1 << 18)
    for (int64_t query = 0; query < num_queries; query++) {
        const int64_t *mine = rows + query * places;
        float *to = scores + query * places;
        const auto start = [&](int64_t i) { return candidates + (mine[i] < 0 ? 0 : mine[i]) * dim; };
        dots(queries + query * dim, start, 1, places, dim, to);
        for (int64_t i = 0; i < places; i++)
            if (mine[i] < 0) to[i] = -INFINITY;
    }
}
}
