package coordinator

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A URL that holds a key stands in a file of its own, and no error repeats it.
func TestEndpoints(t *testing.T) {
	path := filepath.Join(t.TempDir(), "urls")
	for name, c := range map[string]struct {
		s    ChainSettings
		file string
		mode os.FileMode
		want []string
		says string
	}{
		"in the settings":  {s: ChainSettings{URL: "http://a", Fallbacks: []string{"http://b"}}, want: []string{"http://a", "http://b"}},
		"in a file":        {s: ChainSettings{URLFile: path}, file: "https://a/KEY\nhttps://b/KEY\n", mode: 0o600, want: []string{"https://a/KEY", "https://b/KEY"}},
		"others read it":   {s: ChainSettings{URLFile: path}, file: "https://a/KEY", mode: 0o644, says: "chmod 600"},
		"empty":            {s: ChainSettings{URLFile: path}, file: " \n", mode: 0o600, says: "empty"},
		"no URL":           {s: ChainSettings{URLFile: path}, file: "https://a/KEY\nKEY", mode: 0o600, says: "line 2"},
		"no file":          {s: ChainSettings{URLFile: path + "x"}, says: "no such file"},
		"both":             {s: ChainSettings{URL: "http://a", URLFile: path}, says: "not both"},
		"neither":          {s: ChainSettings{}, says: "url: "},
		"a password in it": {s: ChainSettings{URL: "https://user:KEY@a"}, says: "url_file"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.mode != 0 {
				if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(path, c.mode); err != nil {
					t.Fatal(err)
				}
			}
			err := c.s.Validate()
			var got []string
			if err == nil {
				got, err = c.s.endpoints()
			}
			if !slices.Equal(got, c.want) || (err == nil) != (c.says == "") {
				t.Errorf("%q, %v", got, err)
			}
			if err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "KEY")) {
				t.Errorf("%v, want %q and no key", err, c.says)
			}
		})
	}
}
