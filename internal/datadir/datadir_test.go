package datadir_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coffer/internal/datadir"
)

type settings struct {
	Name   string           `json:"name"`
	Count  int              `json:"count,omitempty"`
	Peers  []string         `json:"peers,omitempty"`
	Chains map[string]chain `json:"chains,omitempty"`
	Hooks  []*chain         `json:"hooks,omitempty"`
	Own    custom           `json:"own,omitzero"`
	Open   map[string]any   `json:"open,omitempty"`
	Hidden string           `json:"-"`
}

type chain struct {
	URL   string `json:"url"`
	After string `json:"bump_after,omitempty"`
}

// custom reads its JSON itself.
type custom struct{ text string }

func (c *custom) UnmarshalJSON(raw []byte) error { c.text = string(raw); return nil }
func (c custom) MarshalJSON() ([]byte, error)    { return []byte(c.text), nil }

func (s *settings) Validate() error {
	if s.Name == "" {
		return errors.New("name is empty")
	}
	return nil
}

func files(dir string) datadir.Files {
	return datadir.Files{
		Identity: filepath.Join(dir, "key"), Store: filepath.Join(dir, "db"), Audit: filepath.Join(dir, "audit"), Settings: filepath.Join(dir, "config.json"),
	}
}

func TestMakeAndRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	more := false
	key, err := datadir.Make(files(dir), settings{Name: "a"}, func() error { more = true; return nil })
	if err != nil || key == nil || !more {
		t.Fatal(key, more, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	var back settings
	if err := datadir.ReadSettings(files(dir).Settings, "coffer-x", &back); err != nil || back.Name != "a" {
		t.Errorf("%+v, %v", back, err)
	}
	if _, err := datadir.Make(files(dir), settings{Name: "b"}, nil); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a full directory: %v", err)
	}
}

// What fails half-way leaves no settings, so nobody takes the directory for complete.
func TestMakeFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if _, err := datadir.Make(files(dir), settings{Name: "a"}, func() error { return errors.New("no") }); err == nil {
		t.Fatal("it did not fail")
	}
	err := datadir.ReadSettings(files(dir).Settings, "coffer-x", new(settings))
	if err == nil || !strings.Contains(err.Error(), "coffer-x init --dir "+dir) {
		t.Errorf("incomplete directory: %v", err)
	}
}

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string]string{
		`{"name":"a","nmae":"b"}`:                      `unknown key "nmae": did you mean "name"?`,
		`{"name":"a","Count":3}`:                       `unknown key "Count": did you mean "count"?`,
		`{"name":"a","Hidden":"b"}`:                    `unknown key "Hidden": known are name, count`,
		`{"name":"a","name":"b"}`:                      `key "name" stands twice`,
		`{"name":"a","chains":{"dev":{"ulr":"x"}}}`:    `unknown key "chains.dev.ulr": did you mean "url"?`,
		`{"name":"a","hooks":[{"url":""},{"urls":1}]}`: `unknown key "hooks[1].urls": did you mean "url"?`,
		`{"name":"a","count":"many"}`:                  `count: a string stands where a whole number is wanted`,
		`{"name":"a","peers":"one"}`:                   `peers: a string stands where a list is wanted`,
		`{"name":"a","chains":{"dev":"x"}}`:            `chains: a string stands where an object is wanted`,
		`{"name":"a","hooks":[{"bump_after":2}]}`:      `where a text is wanted`,
		`{"name":"a"} {}`:                              "text after",
		`{"name":""}`:                                  "name is empty",
		`{"name":`:                                     "line 1 is no JSON",
		"{\n\"name\": \"a\"\n\"count\": 1}":            "line 3 is no JSON",
		"":                                             "line 1 is no JSON",
		`[]`:                                           "cannot unmarshal array",
		strings.Repeat(" ", 2<<20):                     "over 1048576 bytes",
	} {
		write(text)
		if err := datadir.ReadSettings(path, "coffer-x", new(settings)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
	write(`{"name":"a","chains":{"dev":{"url":"u"}},"hooks":[{"url":"v"}],"own":{"any":1},"open":{"x":{"y":[]}}}`)
	var s settings
	if err := datadir.ReadSettings(path, "coffer-x", &s); err != nil || s.Chains["dev"].URL != "u" || s.Hooks[0].URL != "v" || s.Own.text != `{"any":1}` {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestCheckAddress(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:7001": "", "[::1]:0": "", "signer-a.example:65535": "", ":7001": "",
		"nowhere": "host:port", "a:b:c": "host:port", "a:port": "port", "a:65536": "port", "a:-1": "port", "": "host:port",
	} {
		if err := datadir.CheckAddress(text); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for text, any := range map[string]bool{"0.0.0.0:1": true, "[::]:1": true, ":1": true, "127.0.0.1:1": false, "a:1": false} {
		if datadir.Everywhere(text) != any {
			t.Errorf("%q listens everywhere: want %v", text, any)
		}
	}
}
