//! Nothing: the benches are in `benches/`, the side-by-side run is `compare`.
