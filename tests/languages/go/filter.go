// The filter of the tests in Go: the proxy-wasm ABI 0.2.1 by hand, the rest by the standard library. What it does is
// told in ../README.md.
package main

import (
	"fmt"
	"os"
	"strconv"
	"unsafe"
)

const (
	ok          = 0
	casMismatch = 8

	info = 2

	goOn  = 0
	pause = 1

	requestBody         = 0
	pluginConfiguration = 7

	requestHeaders  = 0
	responseHeaders = 2
)

//go:wasmimport env proxy_log
func hostLog(level uint32, text string) uint32

//go:wasmimport env proxy_get_buffer_bytes
func getBufferBytes(kind, start, most uint32, at, size *uint32) uint32

//go:wasmimport env proxy_get_header_map_value
func getHeader(kind uint32, name string, at, size *uint32) uint32

//go:wasmimport env proxy_add_header_map_value
func addHeader(kind uint32, name, value string) uint32

//go:wasmimport env proxy_get_shared_data
func getSharedData(key string, at, size, cas *uint32) uint32

//go:wasmimport env proxy_set_shared_data
func setSharedData(key, value string, cas uint32) uint32

//go:wasmimport env proxy_send_local_response
func sendLocalResponse(status uint32, details, body, headers string, grpcStatus int32) uint32

var (
	greeting string
	// Bytes of the bodies, by stream.
	bodies = map[uint32]int{}
	// What the host fills, one thing at a time: this keeps it from the collector until it is taken.
	given []byte
)

//go:wasmexport proxy_on_memory_allocate
func allocate(size uint32) unsafe.Pointer {
	given = make([]byte, size)
	return unsafe.Pointer(&given[0])
}

// What a host function gives; nothing where it gives nothing. The host does not allocate for nothing.
func take(call func(at, size *uint32) uint32) string {
	var at, size uint32
	if call(&at, &size) != ok || size == 0 {
		return ""
	}
	return string(given)
}

// The number of responses so far, in all languages and on all workers: decimal digits.
func count() string {
	for {
		var cas uint32
		old := take(func(at, size *uint32) uint32 { return getSharedData("count", at, size, &cas) })
		number, _ := strconv.Atoi(old)
		text := strconv.Itoa(number + 1)
		if setSharedData("count", text, cas) != casMismatch {
			return text
		}
	}
}

//go:wasmexport proxy_abi_version_0_2_1
func abiVersion() {}

//go:wasmexport proxy_on_context_create
func onContextCreate(id, root uint32) {
	if root != 0 {
		bodies[id] = 0
	}
}

//go:wasmexport proxy_on_vm_start
func onVMStart(root, size uint32) bool {
	fmt.Println("go starts in", os.Getenv("STAGE"))
	return true
}

//go:wasmexport proxy_on_configure
func onConfigure(root, size uint32) bool {
	greeting = take(func(at, taken *uint32) uint32 { return getBufferBytes(pluginConfiguration, 0, size, at, taken) })
	if greeting == "" {
		fmt.Fprintln(os.Stderr, "go has no greeting")
	}
	return greeting != ""
}

//go:wasmexport proxy_on_request_headers
func onRequestHeaders(id, headers, ends uint32) uint32 {
	header := func(name string) string {
		return take(func(at, size *uint32) uint32 { return getHeader(requestHeaders, name, at, size) })
	}
	if header("x-crash") == "go" {
		panic("go is to crash")
	}
	if header(":path") == "/local" {
		sendLocalResponse(418, "teapot", "a teapot in go\n", "", -1)
		return pause
	}
	if name := header("x-name"); name != "" {
		text := greeting + " " + name
		addHeader(requestHeaders, "x-greeting", text)
		hostLog(info, text)
	}
	return goOn
}

//go:wasmexport proxy_on_request_body
func onRequestBody(id, size, ends uint32) uint32 {
	piece := take(func(at, taken *uint32) uint32 { return getBufferBytes(requestBody, 0, size, at, taken) })
	bodies[id] += len(piece)
	return goOn
}

//go:wasmexport proxy_on_response_headers
func onResponseHeaders(id, headers, ends uint32) uint32 {
	addHeader(responseHeaders, "x-language", "go")
	addHeader(responseHeaders, "x-body-bytes", strconv.Itoa(bodies[id]))
	addHeader(responseHeaders, "x-count", count())
	return goOn
}

//go:wasmexport proxy_on_delete
func onDelete(id uint32) {
	delete(bodies, id)
}

// A library has no main, but the compiler asks for it.
func main() {}
