ORDER="$ORDER fails"
false
