#version 430
in vec2 at;
flat in float strength;
out vec4 shown;

void main() {
    float edge = length(pow(abs(at), vec2(4.0)));
    float dark = strength * (1.0 - smoothstep(0.25, 1.35, edge));
    shown = strength >= 0.0 ? vec4(0.0, 0.0, 0.0, dark) : vec4(1.0, 0.9, 0.7, -strength * exp(-2.5 * dot(at, at)));
}
