#version 430
// What the lens and the sensor add: a slight blur, darker corners, noise that grows with the light.
uniform sampler2D scene;
uniform sampler2D noise;
uniform ivec2 noise_shift;
uniform ivec2 size;
uniform vec2 noise_levels;    // at black, added at white
uniform float sharpness;      // weight of the centre
out vec4 shown;

vec3 pixel(ivec2 at) {
    return texelFetch(scene, clamp(at, ivec2(0), size - 1), 0).rgb;
}

void main() {
    ivec2 at = ivec2(gl_FragCoord.xy);
    vec3 around = pixel(at + ivec2(1, 0)) + pixel(at - ivec2(1, 0)) + pixel(at + ivec2(0, 1)) + pixel(at - ivec2(0, 1));
    vec3 colour = mix(around * 0.25, pixel(at), sharpness);
    vec2 from_centre = (gl_FragCoord.xy - vec2(size) * 0.5) / float(size.x);
    colour *= 1.0 - 0.32 * dot(from_centre, from_centre);
    vec3 random = texelFetch(noise, (at + noise_shift) & (textureSize(noise, 0) - 1), 0).rgb;
    colour += random * (noise_levels.x + noise_levels.y * sqrt(max(colour.g, 0.0)));
    shown = vec4(colour.bgr, 1.0);
}
