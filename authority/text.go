package authority

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"coffer/charter"
)

// ParseText reads the records of a file in every form in which people carry them: lines,
// with empty ones and comments between; what coffer show, coffer pending and coffer-signer
// records print with --json; or a charter file. A text without a record is an error.
func ParseText(raw []byte) (out []Record, err error) {
	text := string(raw)
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		out, err = parseJSON(text)
	} else {
		out, err = parseLines(text)
	}
	if err == nil && len(out) == 0 {
		err = errors.New("there is no record in it")
	}
	return out, err
}

func parseLines(text string) (out []Record, err error) {
	for n, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r, err := ParseLine(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// parseJSON reads one object after the other: records --json prints one for each record.
func parseJSON(text string) (out []Record, err error) {
	objects := json.NewDecoder(strings.NewReader(text))
	for n := 1; ; n++ {
		var object json.RawMessage
		if err := objects.Decode(&object); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		some, err := parseObject(object)
		if err != nil && n > 1 {
			err = fmt.Errorf("object %d: %w", n, err)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
}

func parseObject(object []byte) (out []Record, err error) {
	type shown struct {
		Record string `json:"record"`
	}
	var one struct {
		shown
		Records []shown `json:"records"`
	}
	// A charter file has records of another form, and is read strictly.
	if json.Unmarshal(object, &one) != nil || one.Record == "" && len(one.Records) == 0 {
		file, err := charter.ParseFile(object)
		if err != nil {
			return nil, err
		}
		return FromFile(file)
	}
	if one.Record != "" {
		one.Records = append(one.Records, one.shown)
	}
	for _, s := range one.Records {
		r, err := ParseLine(strings.TrimSpace(s.Record))
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// FromFile are the records that a charter file carries.
func FromFile(file *charter.File) (out []Record, err error) {
	for _, raw := range file.Records {
		r, err := Parse(raw)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}
