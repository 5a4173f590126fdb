// Sun, sky, lamps and the tone curve, the same for the baked street and for what moves in it.
uniform vec3 sun_direction;
uniform vec3 sun_light;
uniform vec3 sky_light;
uniform vec3 lamp_light;
uniform float exposure;
uniform mat4 sun_matrix;
uniform sampler2DShadow static_shadow;
uniform sampler2DShadow moving_shadow;

float lit_by_sun(sampler2DShadow map, vec3 world, vec3 normal, float spread) {
    vec3 at = (sun_matrix * vec4(world + normal * 0.05, 1.0)).xyz * 0.5 + 0.5;
    at.z -= 0.0012;
    if (any(lessThan(at.xy, vec2(0.002))) || any(greaterThan(at.xy, vec2(0.998)))) return 1.0;
    if (spread <= 0.0) return texture(map, at);
    float sum = 0.0;
    for (int i = 0; i < 4; i++)
        sum += texture(map, at + vec3((float(i & 1) - 0.5) * spread, (float(i >> 1) - 0.5) * spread, 0.0));
    return sum * 0.25;
}

vec3 display(vec3 linear) {
    vec3 tone = 1.0 - exp(-1.15 * exposure * linear);
    return pow(tone, vec3(1.0 / 2.2));
}
