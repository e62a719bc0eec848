// Renders conversations with a Modelfile's template as Ollama does, with Go's own text/template.
//
// In, as JSON: {"template": "…", "conversations": [[{"Role": "user", "Content": "…"}, …], …]}.
// Out, as JSON: ["…", …]. Ollama gives a template the text of the system messages, joined by empty lines, and all
// messages, with consecutive messages of the same role, other than tool, merged into one.
package main

import (
	"encoding/json"
	"log"
	"os"
	"strings"
	"text/template"
)

type message struct{ Role, Content string }

func render(t *template.Template, talk []message) string {
	var system []string
	var turns []message
	for _, m := range talk {
		if m.Role == "system" {
			system = append(system, m.Content)
		}
		if last := len(turns) - 1; last >= 0 && turns[last].Role == m.Role && m.Role != "tool" {
			turns[last].Content += "\n\n" + m.Content
		} else {
			turns = append(turns, m)
		}
	}
	var out strings.Builder
	values := map[string]any{"System": strings.Join(system, "\n\n"), "Messages": turns, "Response": ""}
	if err := t.Execute(&out, values); err != nil {
		log.Fatal(err)
	}
	return out.String()
}

func main() {
	log.SetFlags(0)
	var in struct {
		Template      string
		Conversations [][]message
	}
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		log.Fatal(err)
	}
	t, err := template.New("").Option("missingkey=zero").Parse(in.Template)
	if err != nil {
		log.Fatal(err)
	}
	texts := []string{}
	for _, talk := range in.Conversations {
		texts = append(texts, render(t, talk))
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(texts); err != nil {
		log.Fatal(err)
	}
}
