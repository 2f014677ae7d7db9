package main

import "lastro/store/layout"

var scenarios = []scenario{
	{"GET manifest by tag", "distribution", 1.0 / 9, false, both("GET /v2/bench/manifests/v1")},
	{"HEAD manifest by tag", "distribution", 1.0 / 9, false, both("HEAD /v2/bench/manifests/v1")},
	{"GET manifest by digest", "distribution", 1.0 / 9, false, func(c content) map[string][]string { return both("GET /v2/bench/manifests/" + c.manifest.String())(c) }},
	{"GET blob of 3 KB", "distribution", 1.0 / 15, false, func(c content) map[string][]string { return both("GET /v2/bench/blobs/" + c.config.String())(c) }},
	{"HEAD blob", "distribution", 1.0 / 4, false, func(c content) map[string][]string { return both("HEAD /v2/bench/blobs/" + c.layers[0].String())(c) }},
	{"a GB in layers of 3 MB", "distribution", 1.0 / 2, true, func(c content) map[string][]string {
		var lines []string
		for _, d := range c.layers {
			lines = append(lines, "GET /v2/bench/blobs/"+d.String())
		}
		return both(lines...)(c)
	}},
	{"a GB in blobs of 60 MB", "files", 1.1, true, large},
}

// both asks ours and distribution's the same.
func both(lines ...string) func(content) map[string][]string {
	return func(content) map[string][]string {
		return map[string][]string{"lastro": lines, "distribution": lines}
	}
}

// large asks all three for the large blobs.
func large(c content) map[string][]string {
	var blobs, files []string
	for _, d := range c.large {
		blobs = append(blobs, "GET /v2/bench/blobs/"+d.String())
		files = append(files, "GET /"+layout.Data(d))
	}
	return map[string][]string{"lastro": blobs, "distribution": blobs, "files": files}
}
