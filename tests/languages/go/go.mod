module wasmgate.test/filter

go 1.24
